//! Tests through the controller's public face.
