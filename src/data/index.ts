export { type Cifar100Options, cifar10, cifar100 } from './cifar';
export { type Dataset, type FromArraysOptions, fromArrays, type Splits, take } from './dataset';
export { digits } from './digits';
export { type AugmentOptions, type Batch, DataLoader, type DataLoaderOptions, type LoaderState } from './loader';
export { fashionMnist, mnist } from './mnist';
export { type SplitOptions, split, subset } from './split';
