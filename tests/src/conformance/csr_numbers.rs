pub(super) fn bodies() -> Vec<(&'static str, String)> { vec![] }
