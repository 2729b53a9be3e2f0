export { BinaryConv2d, type BinaryConv2dOptions } from './binary-conv2d';
export { BinaryLayer, type BinaryLayerOptions, type SignOptions } from './binary-layer';
export { BinaryLinear, type BinaryLinearOptions } from './binary-linear';
export { RPReLU, type RPReLUOptions } from './rprelu';
export { RSign, type RSignOptions } from './rsign';
