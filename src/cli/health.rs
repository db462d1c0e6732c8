//! `pgnode health`: for the HEALTHCHECK of the image.
