//! The one configuration file, read into checked values.
