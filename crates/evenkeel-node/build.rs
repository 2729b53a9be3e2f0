//! Tells the linker how an addon for Node.js is linked on each system.

fn main() {
    napi_build::setup();
}
