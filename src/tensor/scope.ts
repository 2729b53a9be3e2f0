import { EvenkeelError } from '../errors';
import { checkFunction } from '../options';

/** What was made in a scope that is open, in order; undefined where it has left. */
export type Frame = (Scoped | undefined)[];

/** What a scope frees. */
export interface Scoped {
  /** The frame of the scope that it is in. For scopes. */
  frame: Frame | undefined;
  /** Where it is in its frame. For scopes. */
  place: number;
  dispose(): void;
  /** Called when the last scope lets go of a tensor that stays alive: from here on garbage collection is its net. */
  leaveScopes(): void;
}

const frames: Frame[] = [];

function enter(tensor: Scoped, frame: Frame): void {
  tensor.frame = frame;
  tensor.place = frame.length;
  frame.push(tensor);
}

/** Enters a new tensor into the innermost scope; false where there is none. */
export function enterScope(tensor: Scoped): boolean {
  const frame = frames[frames.length - 1];
  if (frame !== undefined) enter(tensor, frame);
  return frame !== undefined;
}

/** Takes a tensor out of the scope that it is in; false where it is in none. */
export function leaveScope(tensor: Scoped): boolean {
  const { frame } = tensor;
  if (frame === undefined) return false;
  frame[tensor.place] = undefined;
  tensor.frame = undefined;
  // A long loop that frees what it makes leaves nothing behind.
  while (frame.length > 0 && frame[frame.length - 1] === undefined) frame.pop();
  return true;
}

function isScoped(value: object): value is Scoped {
  return 'leaveScopes' in value && 'dispose' in value;
}

/** Moves every tensor in `value` (itself, or inside arrays, maps and plain objects) from `inner` to `outer`. */
function hand(value: unknown, inner: Frame, outer: Frame | undefined, seen?: Set<object>): void {
  if (typeof value !== 'object' || value === null || seen?.has(value) === true) return;
  if (isScoped(value)) {
    if (value.frame === inner) {
      leaveScope(value);
      if (outer === undefined) value.leaveScopes();
      else enter(value, outer);
    }
    return;
  }
  seen ??= new Set();
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
  const frame: Frame = [];
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
    hand(result, frame, frames[frames.length - 2]);
  } finally {
    frames.pop();
    for (const tensor of frame) tensor?.dispose();
  }
  return result;
}
