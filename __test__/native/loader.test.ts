import { type Host, loadNativeModule } from '../../src/native/loader';

const native = { version: () => '1.2.3' };

/** A Linux machine on which `files` exist and `modules` can be required. */
function host(modules: Record<string, unknown>, changes: Partial<Host> = {}): Host {
  return {
    platform: 'linux',
    arch: 'x64',
    libc: () => 'gnu',
    libraryPath: undefined,
    folder: '/clone',
    version: '1.2.3',
    exists: (path) => path in modules,
    require: (id) => {
      const found = modules[id];
      if (found === undefined) {
        throw new Error(`Cannot find module '${id}'\nRequire stack: ...`);
      }
      if (found instanceof Error) {
        throw found;
      }
      return found;
    },
    ...changes,
  };
}

describe('loadNativeModule', () => {
  test.each([
    ['linux', 'x64', 'gnu', 'evenkeel-linux-x64-gnu'],
    ['linux', 'x64', 'musl', 'evenkeel-linux-x64-musl'],
    ['linux', 'arm64', 'gnu', 'evenkeel-linux-arm64-gnu'],
    ['linux', 'arm64', 'musl', 'evenkeel-linux-arm64-musl'],
    ['darwin', 'x64', 'gnu', 'evenkeel-darwin-x64'],
    ['darwin', 'arm64', 'gnu', 'evenkeel-darwin-arm64'],
    ['win32', 'x64', 'gnu', 'evenkeel-win32-x64-msvc'],
    ['win32', 'arm64', 'gnu', 'evenkeel-win32-arm64-msvc'],
  ] as const)('on %s %s %s it loads %s', (platform, arch, libc, name) => {
    expect(loadNativeModule(host({ [name]: native }, { platform, arch, libc: () => libc }))).toBe(native);
  });

  test('prefers the file of a clone to the package', () => {
    const local = { version: () => '1.2.3' };
    const modules = { '/clone/evenkeel.linux-x64-gnu.node': local, 'evenkeel-linux-x64-gnu': native };
    expect(loadNativeModule(host(modules))).toBe(local);
  });

  test('prefers NAPI_RS_NATIVE_LIBRARY_PATH to everything', () => {
    const named = { version: () => '1.2.3' };
    const modules = { '/named.node': named, '/clone/evenkeel.linux-x64-gnu.node': native };
    expect(loadNativeModule(host(modules, { libraryPath: '/named.node' }))).toBe(named);
  });

  test('says how to get the module when there is none', () => {
    const load = () => loadNativeModule(host({}));
    expect(load).toThrow(/evenkeel-linux-x64-gnu: Cannot find module/);
    expect(load).toThrow(/npm run build:native/);
    expect(load).toThrow(/--include=optional/);
    expect(load).toThrow(expect.objectContaining({ code: 'NATIVE_UNAVAILABLE' }));
  });

  test('does not hide a broken local build behind the package', () => {
    const broken = new Error("/lib/libc.so.6: version `GLIBC_2.38' not found (required by evenkeel.node)");
    const modules = { '/clone/evenkeel.linux-x64-gnu.node': broken, 'evenkeel-linux-x64-gnu': native };
    expect(() => loadNativeModule(host(modules))).toThrow(/glibc 2\.38 or newer is needed/);
  });

  test('names --no-addons as the cause', () => {
    const disabled = Object.assign(new Error('Cannot load native addon'), { code: 'ERR_DLOPEN_DISABLED' });
    expect(() => loadNativeModule(host({ 'evenkeel-linux-x64-gnu': disabled }))).toThrow(
      /--no-addons: start it without/,
    );
  });

  test('refuses a module of another version', () => {
    const modules = { 'evenkeel-linux-x64-gnu': { version: () => '1.2.2' } };
    expect(() => loadNativeModule(host(modules))).toThrow(/has version 1\.2\.2, but this package has version 1\.2\.3/);
  });

  test('refuses a module without a version', () => {
    expect(() => loadNativeModule(host({ 'evenkeel-linux-x64-gnu': {} }))).toThrow(/has version \(none\)/);
  });

  test('names the systems it knows on a system it does not know', () => {
    const load = () => loadNativeModule(host({}, { platform: 'aix', arch: 'ppc64' }));
    expect(load).toThrow(/no build for aix on ppc64/);
    expect(load).toThrow(/linux on x64/);
  });
});
