//! What is cut and joined must stay what its senders wrote, by a checker that shares no code with the cutter.

mod draft;
mod joining;
mod mixed;
mod splitting;
mod window;
