//! The program; everything is in the library, where fuzz targets can reach it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    cricket::run()
}
