// The package from an ES module, by names.
import assert from 'node:assert';
import { tensor } from 'evenkeel';
import { Linear } from 'evenkeel/nn';

const layer = new Linear({ inFeatures: 2, outFeatures: 3 });
assert.deepStrictEqual(layer.call(tensor([1, 2], { shape: [1, 2] })).shape, [1, 3]);
