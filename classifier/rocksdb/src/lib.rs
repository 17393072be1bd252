//! The token counts of all users of a host in one RocksDB.
