//! Tests through the controller's public face.

mod access;
mod conditions;
mod devices;
mod enrolment;
mod keys;
mod log;
mod perimeters;
mod presence;
mod properties;
mod providers;
mod queries;
mod request_histories;
mod requests;
mod scale;
mod sessions;
mod time;
mod weight;
mod world;
