//! The program: `cricket-monitor SANDBOX_ID`, with its listening socket as descriptor 3.

use std::process::ExitCode;

fn main() -> ExitCode {
    cricket_monitor::main()
}
