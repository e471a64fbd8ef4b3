//! Kills, restarts, reboots and retries.
