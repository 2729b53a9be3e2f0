// `npm run build:native`: builds the native module if its sources changed.
import { ensureNative } from './support/prepare.mjs';
import { program } from './support/run.mjs';

program(ensureNative);
