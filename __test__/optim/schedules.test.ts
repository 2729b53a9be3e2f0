import { type Schedule, schedules } from '../../src/optim';

const { constant, cosine, linearByEpoch, linearToZero, linearWarmup, oneCycle, sequence, step, warmup } = schedules;

function values(schedule: Schedule, steps: readonly number[]): number[] {
  return steps.map((now) => schedule(now));
}

function expectClose(actual: readonly number[], expected: readonly number[]): void {
  expect(actual).toHaveLength(expected.length);
  for (const [index, value] of expected.entries()) expect(actual[index]).toBeCloseTo(value, 12);
}

describe('schedules', () => {
  it('constant stays', () => {
    expect(values(constant({ learningRate: 0.3 }), [0, 1, 1e6])).toEqual([0.3, 0.3, 0.3]);
  });

  it('linearWarmup rises from above 0 to the learning rate and stays', () => {
    const schedule = linearWarmup({ learningRate: 1, steps: 4 });
    expectClose(values(schedule, [0, 1, 3, 4, 100]), [0.2, 0.4, 0.8, 1, 1]);
    expectClose(values(linearWarmup({ learningRate: 1, steps: 1, from: 0.5 }), [0, 1]), [0.75, 1]);
  });

  it('step falls at milestones, or every so many steps', () => {
    expectClose(
      values(step({ learningRate: 1, at: [2, 4], factor: 0.5 }), [0, 1, 2, 3, 4, 9]),
      [1, 1, 0.5, 0.5, 0.25, 0.25],
    );
    expectClose(values(step({ learningRate: 1, at: 3 }), [0, 2, 3, 6]), [1, 1, 0.1, 0.01]);
  });

  it('cosine falls along half a cosine and stays at its end', () => {
    expectClose(values(cosine({ learningRate: 2, steps: 4 }), [0, 1, 2, 4, 9]), [2, 1 + Math.SQRT1_2, 1, 0, 0]);
    expectClose(values(cosine({ learningRate: 2, steps: 4, to: 1 }), [0, 2, 4]), [2, 1.5, 1]);
  });

  it('linearToZero falls linearly', () => {
    expectClose(values(linearToZero({ learningRate: 2, steps: 4 }), [0, 1, 4, 5]), [2, 1.5, 0, 0]);
  });

  it('linearByEpoch falls between epochs, and is 0 in the last one', () => {
    const schedule = linearByEpoch({ learningRate: 2, epochs: 4, stepsPerEpoch: 3 });
    // Exact: fractions of powers of two.
    expect(Array.from({ length: 13 }, (_, step) => schedule(step))).toEqual([
      1.5, 1.5, 1.5, 1, 1, 1, 0.5, 0.5, 0.5, 0, 0, 0, 0,
    ]);
    expect(linearByEpoch({ learningRate: 2, epochs: 1, stepsPerEpoch: 3 })(0)).toBe(0);
    expect(() => linearByEpoch({ learningRate: 2, epochs: 0, stepsPerEpoch: 3 })).toThrow('linearByEpoch');
  });

  it("oneCycle is PyTorch's", () => {
    // torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1, total_steps=10): phases end at steps 2 and 9.
    const schedule = oneCycle({ learningRate: 1, steps: 10 });
    const between = (from: number, to: number, part: number) => to + ((from - to) / 2) * (1 + Math.cos(Math.PI * part));
    expectClose(values(schedule, [0, 1, 2]), [0.04, 0.52, 1]);
    expectClose(values(schedule, [3, 5, 9, 20]), [between(1, 4e-6, 1 / 7), between(1, 4e-6, 3 / 7), 4e-6, 4e-6]);
  });

  it('sequence runs one after another, each from its step 0', () => {
    const schedule = sequence([
      { schedule: linearToZero({ learningRate: 1, steps: 2 }), steps: 2 },
      { schedule: constant({ learningRate: 5 }), steps: 1 },
      { schedule: linearToZero({ learningRate: 4, steps: 4 }), steps: 4 },
    ]);
    expectClose(values(schedule, [0, 1, 2, 3, 4, 7, 50]), [1, 0.5, 5, 4, 3, 0, 0]);
  });

  it('warmup leads up to where the other begins', () => {
    const schedule = warmup(cosine({ learningRate: 1, steps: 4 }), { steps: 3 });
    expectClose(values(schedule, [0, 1, 2, 3, 5, 7]), [0.25, 0.5, 0.75, 1, 0.5, 0]);
  });

  it.each<[string, () => unknown]>([
    ['a negative rate', () => constant({ learningRate: -1 })],
    ['no rate', () => cosine({ learningRate: Number.NaN, steps: 1 })],
    ['no steps', () => linearToZero({ learningRate: 1, steps: 0 })],
    ['half a step', () => linearWarmup({ learningRate: 1, steps: 1.5 })],
    ['an empty sequence', () => sequence([])],
    ['a milestone of 0', () => step({ learningRate: 1, at: [0] })],
    ['a warmup of all', () => oneCycle({ learningRate: 1, steps: 10, warmup: 1 })],
  ])('refuses %s', (_name, body) => {
    expect(body).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });
});
