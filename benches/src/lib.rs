//! Workloads and the peers they are raced against.
