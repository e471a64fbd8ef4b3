//! Control groups v1 and v2: make, join, limit, kill, measure, remove.

#![forbid(unsafe_code)]
