//! What the benchmarks share: a server that takes messages as fast as it can, a line with a delay, the clients that are
//! compared, and the figures they leave.

pub mod client;
pub mod delay;
pub mod figure;
pub mod load;
pub mod sink;
