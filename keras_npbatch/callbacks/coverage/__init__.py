"""The callback that counts which samples each epoch was trained on."""
