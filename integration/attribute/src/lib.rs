//! The attribute that makes a function a test of the programs with a runner of their own.

use proc_macro::{TokenStream, TokenTree};

/// Registers a function without parameters as a test of the program that it is compiled into:
/// `#[test]`, or `#[test(last)]` for what looks at the state that the other tests of its module
/// leave.
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, function: TokenStream) -> TokenStream {
    let tokens = function.clone().into_iter();
    let mut behind_fn = tokens.skip_while(|token| token.to_string() != "fn").skip(1);
    let registration = match behind_fn.next() {
        Some(TokenTree::Ident(name)) => {
            format!("::coracle_integration::register!({name} {arguments});")
        }
        _ => "compile_error!(\"a test is a function\");".to_owned(),
    };
    let mut output: TokenStream = registration.parse().unwrap_or_default();
    output.extend(function);
    output
}
