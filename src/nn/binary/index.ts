export { BinaryConv2d, type BinaryConv2dOptions } from './binary-conv2d';
export { BinaryLayer, type BinaryLayerOptions, type SignOptions } from './binary-layer';
export { BinaryLinear, type BinaryLinearOptions } from './binary-linear';
export { BinaryWeightConv2d, type BinaryWeightConv2dOptions } from './binary-weight-conv2d';
export { RPReLU, type RPReLUOptions } from './rprelu';
export { RSign, type RSignOptions } from './rsign';
