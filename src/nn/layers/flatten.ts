import type { Tensor } from '../../tensor';
import { Module } from '../module';

/** Joins all axes but the first: `[batch, height, width, channels]` to `[batch, height · width · channels]`. */
export class Flatten extends Module {
  override forward(input: Tensor): Tensor {
    const [batch = 1, ...rest] = input.shape;
    if (rest.length === 1) return input;
    return input.reshape([batch, rest.reduce((size, axis) => size * axis, 1)]);
  }
}
