/** What the native module exports: a hand-written mirror of `crates/evenkeel-node/src/lib.rs`. */
export interface NativeBinding {
  /** The version of the crate it was built from; the loader compares it with package.json. */
  version(): string;
}
