//! What tests need of the operator is not in the binary that people get.

use std::fs;

#[test]
fn the_binary_has_crash_points_only_where_it_was_built_with_them() {
    let binary = fs::read(env!("CARGO_BIN_EXE_tenantry")).expect("the binary");
    let variable = b"TENANTRY_CRASH_POINTS";
    let there = binary.windows(variable.len()).any(|bytes| bytes == variable);
    assert_eq!(there, cfg!(feature = "crash-points"));
}
