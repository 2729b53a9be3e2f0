// The systems that Evenkeel has native modules for, by the names that Rust and npm give them.

/** Rust target → the name of the binary and of its npm package's suffix, and what npm needs to choose that package. */
export const platforms = {
  'x86_64-unknown-linux-gnu': { name: 'linux-x64-gnu', os: 'linux', cpu: 'x64', libc: 'glibc' },
  'x86_64-unknown-linux-musl': { name: 'linux-x64-musl', os: 'linux', cpu: 'x64', libc: 'musl' },
  'aarch64-unknown-linux-gnu': { name: 'linux-arm64-gnu', os: 'linux', cpu: 'arm64', libc: 'glibc' },
  'aarch64-unknown-linux-musl': { name: 'linux-arm64-musl', os: 'linux', cpu: 'arm64', libc: 'musl' },
  'x86_64-apple-darwin': { name: 'darwin-x64', os: 'darwin', cpu: 'x64' },
  'aarch64-apple-darwin': { name: 'darwin-arm64', os: 'darwin', cpu: 'arm64' },
  'x86_64-pc-windows-msvc': { name: 'win32-x64-msvc', os: 'win32', cpu: 'x64' },
  'aarch64-pc-windows-msvc': { name: 'win32-arm64-msvc', os: 'win32', cpu: 'arm64' },
};

/** The file name of the native module for a Rust target. */
export function binaryFile(target) {
  return `evenkeel.${platforms[target].name}.node`;
}

/** The file that cargo writes for the library `evenkeel_node` on this system. */
export function cargoLibraryFile() {
  switch (process.platform) {
    case 'win32':
      return 'evenkeel_node.dll';
    case 'darwin':
      return 'libevenkeel_node.dylib';
    default:
      return 'libevenkeel_node.so';
  }
}
