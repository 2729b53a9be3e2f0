export { Identity, Sequential } from './containers';
export {
  type AnyModule,
  type CallListener,
  Module,
  Parameter,
  type StateArray,
  type StateDifference,
  type StateSource,
  type StateValue,
} from './module';
export type { ParameterOptions } from './parameter';
