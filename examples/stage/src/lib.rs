//! What the examples share: a [`Screen`] for the audience, and [`run`], which plays a story in a lab and leaves nothing
//! behind however it ends.

mod screen;
mod show;

pub use screen::{Mark, Screen, dimmed, marked, milliseconds};
pub use show::{Finale, Staying, run};
