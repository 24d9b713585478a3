"""What a person looks at: the demo chat, the admin pages, the API explorer. All assets are served by us."""
