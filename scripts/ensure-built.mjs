// `npm run build`: dependencies, native module, TypeScript; each only if it is missing or its sources changed.
import { ensureBuilt } from './support/prepare.mjs';
import { program } from './support/run.mjs';

program(ensureBuilt);
