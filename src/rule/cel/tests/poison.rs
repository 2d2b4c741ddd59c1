//! Expressions that bring the interpreter down.

use super::*;

#[test]
fn an_expression_that_panics_has_failed_and_the_process_lives() {
    let (event, rule) = (event(json!({})), rule_ref());
    let program = Program::compile("event.id", &Names::conditions()).expect("it compiles");
    let scope = Scope::new(&event, "s", &rule, now());
    let failed = program.with_value(&scope, |_| -> Result<(), ExecutionError> { panic!("poison") });
    let failed = failed.expect_err("it panics").to_string();
    assert!(failed.contains("please report it"), "{failed}");
    assert_eq!(program.evaluate(&scope).expect("others go on"), json!("u/1"));
}
