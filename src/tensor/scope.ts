import { EvenkeelError } from '../errors';
import { checkFunction } from '../options';

/** What a scope frees. */
export interface Scoped {
  dispose(): void;
  /** Called when the last scope lets go of a tensor that stays alive: from here on garbage collection is its net. */
  leaveScopes(): void;
}

const frames: Set<Scoped>[] = [];

/** Enters a new tensor into the innermost scope; false where there is none. */
export function enterScope(tensor: Scoped): boolean {
  const frame = frames[frames.length - 1];
  frame?.add(tensor);
  return frame !== undefined;
}

/** Takes a tensor out of the scopes it is in. */
export function leaveScope(tensor: Scoped): boolean {
  for (let depth = frames.length - 1; depth >= 0; depth--) {
    if (frames[depth]?.delete(tensor)) return true;
  }
  return false;
}

function isScoped(value: object): value is Scoped {
  return 'leaveScopes' in value && 'dispose' in value;
}

/** Moves every tensor in `value` (itself, or inside arrays, maps and plain objects) from `inner` to `outer`. */
function hand(value: unknown, inner: Set<Scoped>, outer: Set<Scoped> | undefined, seen: Set<object>): void {
  if (typeof value !== 'object' || value === null || seen.has(value)) return;
  if (isScoped(value)) {
    if (inner.delete(value)) {
      if (outer === undefined) value.leaveScopes();
      else outer.add(value);
    }
    return;
  }
  seen.add(value);
  if (Array.isArray(value) || value instanceof Set) {
    for (const item of value) hand(item, inner, outer, seen);
  } else if (value instanceof Map) {
    for (const item of value.values()) hand(item, inner, outer, seen);
  } else {
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype === null || Object.getPrototypeOf(prototype as object) === null) {
      for (const item of Object.values(value)) hand(item, inner, outer, seen);
    }
  }
}

/**
 * Runs `body` and frees every tensor that was made inside and is not part of its result (tensors are found in arrays, maps
 * and plain objects). Values that the gradient needs stay alive until `backward()` is done with them.
 *
 * @throws EvenkeelError INVALID_ARGUMENT where `body` returns a promise: what an asynchronous function makes after its first
 * `await` would be entered into somebody else's scope. Use scopes between the awaits.
 */
export function scope<T>(body: () => T): T {
  checkFunction('scope', 'body', body);
  const frame = new Set<Scoped>();
  frames.push(frame);
  let result: T;
  try {
    result = body();
    if (result instanceof Promise) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        'scope: the function is asynchronous; open scopes between its awaits, or free its tensors with dispose()',
      );
    }
    hand(result, frame, frames[frames.length - 2], new Set());
  } finally {
    frames.pop();
    for (const tensor of frame) tensor.dispose();
  }
  return result;
}
