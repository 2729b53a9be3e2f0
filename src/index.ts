/** The public surface of Evenkeel. */
export * as data from './data';
export { type ErrorCode, EvenkeelError } from './errors';
export * as models from './models';
export * as nn from './nn';
export * as optim from './optim';
export * from './tensor';
export * from './training';
export * from './training';
