import type { NativeBinding } from './binding';
import { currentHost, loadNativeModule } from './loader';

let binding: NativeBinding | undefined;

/**
 * The native module, loaded on the first call.
 *
 * @throws an `EvenkeelError` with code `NATIVE_UNAVAILABLE` that says what to do when it cannot be loaded.
 */
export function loadNative(): NativeBinding {
  binding ??= loadNativeModule(currentHost()) as NativeBinding;
  return binding;
}
