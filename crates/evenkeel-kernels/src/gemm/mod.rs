//! Matrix products: packed GEMM from register tiles.
