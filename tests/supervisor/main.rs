//! The whole supervisor against children that hang, fail, die, flood and leave orphans: `pgnode run`
//! as a subreaper, with scripts in the place of PostgreSQL's programs. No Docker.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test that plays the operator, not the product"
)]

mod crashes;
mod floods;
mod rig;
mod stops;
