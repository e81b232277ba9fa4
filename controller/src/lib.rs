//! The controller daemon's rooms.

pub mod ca;
pub mod data_dir;
pub mod store;
