import { ExternalMemory } from '../../src/tensor/external-memory';

const MEGABYTE = 2 ** 20;

function watched() {
  const state = { time: 0, told: 0, calls: 0 };
  const memory = new ExternalMemory(
    (delta) => {
      state.told += delta;
      state.calls++;
    },
    () => state.time,
  );
  return { state, memory };
}

test('hears of a rise at once, in steps of megabytes', () => {
  const { state, memory } = watched();
  memory.update(7 * MEGABYTE);
  expect(state.calls).toBe(0);
  memory.update(9 * MEGABYTE);
  expect(state.told).toBe(9 * MEGABYTE);
  memory.update(16 * MEGABYTE);
  expect(state.calls).toBe(1);
});

test('does not hear of what a training step takes and gives back', () => {
  const { state, memory } = watched();
  for (let step = 0; step < 100; step++) {
    for (let live = 10; live <= 300; live += 10) memory.update(live * MEGABYTE);
    for (let live = 300; live >= 10; live -= 10) memory.update(live * MEGABYTE);
    state.time += 50;
  }
  expect(state.told).toBe(300 * MEGABYTE);
  expect(state.calls).toBe(30);
});

test('hears of a fall that lasts', () => {
  const { state, memory } = watched();
  memory.update(300 * MEGABYTE);
  for (state.time = 0; state.time <= 2500; state.time += 100) memory.update(20 * MEGABYTE);
  expect(state.told).toBe(20 * MEGABYTE);
  memory.update(60 * MEGABYTE);
  expect(state.told).toBe(60 * MEGABYTE);
});

test('hears at once of what it collected itself', () => {
  const { state, memory } = watched();
  memory.update(300 * MEGABYTE);
  memory.update(20 * MEGABYTE);
  expect(state.told).toBe(300 * MEGABYTE);
  memory.noteCollected(20 * MEGABYTE);
  expect(state.told).toBe(20 * MEGABYTE);
});
