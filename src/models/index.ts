export { Lenet, type LenetOptions, lenet } from './lenet';
export { Mlp, type MlpOptions, mlp } from './mlp';
export { type CreateOptions, create, find, type ModelEntry, names } from './registry';
export type { ShortcutKind } from './resnet-blocks';
export { ResnetCifar, type ResnetCifarOptions, resnetCifar } from './resnet-cifar';
