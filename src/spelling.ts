/** What other libraries call options, without underscores and in small letters, and what they may be called here. */
const foreignNames: ReadonlyMap<string, readonly string[]> = new Map([
  ['axis', ['axes']],
  ['ddof', ['correction']],
  ['dim', ['axes']],
  ['elementwiseaffine', ['affine']],
  ['eps', ['epsilon']],
  ['filters', ['outChannels']],
  ['gamma', ['factor']],
  ['lr', ['learningRate']],
  ['maxlr', ['learningRate']],
  ['milestones', ['at']],
  ['negativeslope', ['slope']],
  ['numclasses', ['classes']],
  ['numchannels', ['channels']],
  ['numfeatures', ['channels']],
  ['numgroups', ['groups']],
  ['numparameters', ['channels']],
  ['p', ['rate', 'probability']],
  ['poolsize', ['kernelSize']],
  ['tmax', ['steps']],
  ['totalsteps', ['steps']],
  ['unbiased', ['correction']],
  ['units', ['outFeatures']],
  ['usebias', ['bias']],
]);

/** What to do where `name` is not among the options `known`, in a few words; `undefined` where there is nothing to say. */
export function advice(name: string, known: readonly string[]): string | undefined {
  const plain = name.replaceAll('_', '').toLowerCase();
  if (plain === 'inplace') return 'leave it out: operations make new tensors, and their memory is reused';
  const meant = foreignNames.get(plain)?.find((word) => known.includes(word)) ?? nearest(name, known);
  return meant === undefined ? undefined : `did you mean ${meant}?`;
}

/** Of `words` the one that `word` is most likely a typing error of; `undefined` where none is near. */
export function nearest(word: string, words: readonly string[]): string | undefined {
  return words
    .map((candidate) => ({ candidate, distance: editDistance(word.toLowerCase(), candidate.toLowerCase()) }))
    .filter(
      ({ candidate, distance }) => distance <= Math.max(1, Math.floor(Math.min(word.length, candidate.length) / 3)),
    )
    .sort((a, b) => a.distance - b.distance)[0]?.candidate;
}

/** How many letters must be put in, taken out, replaced or swapped with a neighbour (Damerau 1964, restricted). */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let row = 1; row <= a.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= b.length; column += 1) {
      const same = a[row - 1] === b[column - 1];
      let least = Math.min(
        (last[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (last[column - 1] ?? 0) + (same ? 0 : 1),
      );
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]) {
        least = Math.min(least, (beforeLast[column - 2] ?? 0) + 1);
      }
      current.push(least);
    }
    beforeLast = last;
    last = current;
  }
  return last[b.length] ?? 0;
}
