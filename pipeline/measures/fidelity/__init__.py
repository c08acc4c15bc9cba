"""How closely the student follows the teacher: global embedding, dense tokens, structure."""
