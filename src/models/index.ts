export { EfficientnetB0, type EfficientnetB0Options, efficientnetB0 } from './efficientnet-b0';
export { Lenet, type LenetOptions, lenet } from './lenet';
export { Mlp, type MlpOptions, mlp } from './mlp';
export { MobilenetV1, type MobilenetV1Options, mobilenetV1 } from './mobilenet-v1';
export { type CreateOptions, create, find, type ModelEntry, names } from './registry';
export { Resnet, type ResnetDepth, type ResnetOptions, resnet } from './resnet';
export type { ShortcutKind } from './resnet-blocks';
export { ResnetCifar, type ResnetCifarOptions, resnetCifar } from './resnet-cifar';
export { VggA, type VggAOptions, vggA } from './vgg-a';
