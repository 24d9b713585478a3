"""What all pages share: rendering, assets, sign-in and access, refusals."""
