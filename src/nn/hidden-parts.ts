import { describe } from '../options';

/** A part of a module where nothing looks for parts. */
export interface HiddenPart {
  /** The property path of what holds it: `heads`, `stages.0`. */
  readonly path: string;
  /** What kind of thing holds it: `a Map`. */
  readonly holder: string;
  readonly part: object;
}

/**
 * Looks into maps, sets and plain objects (and arrays on the way) for a part.
 *
 * @param isPart - Whether an object is a part that has not been found elsewhere; parts are not looked into.
 */
export function findHiddenPart(
  value: unknown,
  path: string,
  isPart: (value: object) => boolean,
  holder?: string,
  visited: Set<object> = new Set(),
): HiddenPart | undefined {
  if (typeof value !== 'object' || value === null || visited.has(value)) return undefined;
  if (isPart(value)) return holder === undefined ? undefined : { path, holder, part: value };
  visited.add(value);
  if (Array.isArray(value)) {
    for (const [index, element] of value.entries()) {
      const found = findHiddenPart(element, holder === undefined ? `${path}.${index}` : path, isPart, holder, visited);
      if (found !== undefined) return found;
    }
    return undefined;
  }
  for (const element of elementsOf(value)) {
    const found = findHiddenPart(element, path, isPart, holder ?? describe(value), visited);
    if (found !== undefined) return found;
  }
  return undefined;
}

function elementsOf(value: object): Iterable<unknown> {
  if (value instanceof Map) return value.values();
  if (value instanceof Set) return value;
  const prototype: unknown = Object.getPrototypeOf(value);
  const plain = prototype === null || Object.getPrototypeOf(prototype as object) === null;
  return plain ? Object.values(value) : [];
}
