//! The protocols between the harts' threads, in all orders; and with what they rely on taken away, when they must fail.

#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

use tests::models::{self, Weakness};

macro_rules! models {
    ($($model:ident: $($weakness:ident)+;)+) => {
        $(
            #[test]
            fn $model() {
                models::holds(models::$model);
                for weakness in [$(Weakness::$weakness),+] {
                    assert!(models::fails(weakness, models::$model), "{weakness:?} is not noticed");
                }
            }
        )+
    };
}

models! {
    interrupt: Sequence Order;
    pause: Sequence;
    shootdown: Order;
    shootdown_by_another: Order;
    publication: Sequence Order;
    giving_up: Sequence;
}
