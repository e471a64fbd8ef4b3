//! The driver of each pod: state machine, intents, reconciler.

#![forbid(unsafe_code)]
