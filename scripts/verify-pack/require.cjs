// The package from CommonJS, with every entry point.
const assert = require('node:assert');

const evenkeel = require('evenkeel');
for (const name of ['nn', 'optim', 'data', 'models']) {
  assert.strictEqual(
    require(`evenkeel/${name}`),
    evenkeel[name],
    `evenkeel/${name} is the same module as evenkeel.${name}`,
  );
}
assert.match(require('evenkeel/package.json').version, /^\d+\.\d+\.\d+/);
