import type { Config } from 'jest';

const config: Config = {
  // Tests train networks, and machines that run them are often busy.
  testTimeout: 60_000,
  testEnvironment: '<rootDir>/jest-native-env.cjs',
  // The matchers of one test file are still asked for after the next has begun; without this jest warns each time.
  testEnvironmentOptions: { globalsCleanup: 'off' },
  testMatch: ['<rootDir>/__test__/**/*.test.ts'],
  // Types are checked by `tsc --noEmit`; here each file is only stripped of them (isolatedModules in tsconfig.json).
  transform: { '^.+\\.ts$': ['ts-jest', { tsconfig: '<rootDir>/tsconfig.json' }] },
  modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/target/', '<rootDir>/npm/', '<rootDir>/runs/'],
};

export default config;
