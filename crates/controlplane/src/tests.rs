//! Tests through the controller's public face.

mod access;
mod conditions;
mod devices;
mod directories;
mod enrolment;
mod keys;
mod lapse;
mod locks;
mod log;
mod people_by_clock;
mod perimeters;
mod posture;
mod presence;
mod properties;
mod providers;
mod queries;
mod receipts;
mod request_histories;
mod request_views;
mod requests;
mod scale;
mod sessions;
mod sources;
mod time;
mod weight;
mod world;
