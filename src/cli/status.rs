//! `pgnode status`: what a person sees.
