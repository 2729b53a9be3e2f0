//! Counter-based random numbers (Philox): dropout, uniform and normal values.
