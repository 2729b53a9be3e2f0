/** What an operation costs when there is nothing to compute: the way from TypeScript through the command buffer and back. */
import { ones, scope } from '../src/tensor';
import { measure, print } from './measure';

const OPERATIONS = 1000;

export async function run(): Promise<void> {
  const fill = () => {
    let last = ones([1]);
    for (let index = 1; index < OPERATIONS; index++) {
      last = ones([1]);
    }
    return last;
  };
  print([
    await measure(`${OPERATIONS} tensors of one element`, async () => {
      const last = scope(fill);
      await last.data();
      last.dispose();
    }),
  ]);
}
