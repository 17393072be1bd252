//! What an admin may choose, and RocksDB's own options made of it.

use std::sync::Arc;

use classifier::modern::Base;
use rocksdb::{
    BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, DataBlockIndexType, LogLevel,
    SliceTransform,
};

use crate::{layout, merge};

/// How much memory and how many files the store may use.
///
/// Its memory is about `cache_bytes` + 2 × `write_buffer_bytes` +
/// `model_cache_bytes`, whatever the size of the database.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of tables, their indexes and filters that are kept in memory.
    /// Default 64 MiB: the tokens of some fifty users at work.
    pub cache_bytes: usize,
    /// Bytes of changes that are gathered before they become a table. Each
    /// opening reads at most twice as much back from the log. Default 8 MiB.
    pub write_buffer_bytes: usize,
    /// Bytes of models of the modern engine that are kept ready for judging
    /// and training; one takes up to 4 MiB, about 1 MiB after 1,000 messages.
    /// Another one costs reading it. Default 256 MiB.
    pub model_cache_bytes: usize,
    /// The model that all users begin with, to which their own is added.
    /// Default: none.
    pub base: Option<Arc<Base>>,
    /// Tables that are kept open. Default 256, a quarter of the usual limit
    /// of a process.
    pub max_open_files: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            write_buffer_bytes: 8 << 20,
            model_cache_bytes: 256 << 20,
            base: None,
            max_open_files: 256,
        }
    }
}

impl Options {
    pub(crate) fn to_rocksdb(&self) -> rocksdb::Options {
        let mut options = rocksdb::Options::default();
        options.set_merge_operator(merge::NAME, merge::full, merge::partial);
        options.set_prefix_extractor(SliceTransform::create_fixed_prefix(layout::OWNER_LEN));
        options.set_block_based_table_factory(&self.tables());
        options.set_compression_type(DBCompressionType::None);
        options.set_write_buffer_size(self.write_buffer_bytes);
        options.set_max_write_buffer_number(2);
        // Most tokens of a message were never seen by its recipient. The
        // write buffer answers these without a search.
        options.set_memtable_prefix_bloom_ratio(0.05);
        options.set_memtable_whole_key_filtering(true);
        // A look-up walks all changes of a token that wait in the write buffer,
        // and asks every young table. So each eighth change of a token merges
        // those before it (where that reads memory only), and young tables
        // are compacted by twos: there is little to write beside the reading.
        options.set_max_successive_merges(8);
        options.set_level_zero_file_num_compaction_trigger(2);
        options.set_max_open_files(i32::from(self.max_open_files));
        // RocksDB's default grows without a bound worth the name (1 GiB).
        options.set_max_manifest_file_size(4 << 20);
        // What a crash cut off at the end of the log was not acknowledged. A
        // log that is damaged before its end has lost what was: say so. The
        // default opens with whatever lies before the damage and is silent.
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_log_level(LogLevel::Warn);
        options.set_max_log_file_size(1 << 20);
        options.set_keep_log_file_num(2);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options
    }

    fn tables(&self) -> BlockBasedOptions {
        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(&Cache::new_lru_cache(self.cache_bytes));
        // Otherwise indexes and filters of every open table come on top.
        tables.set_cache_index_and_filter_blocks(true);
        tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
        tables.set_bloom_filter(10.0, false);
        tables.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        tables
    }
}
