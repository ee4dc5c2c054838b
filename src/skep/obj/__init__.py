"""Object files as data: `ObjectSpec`, `ProgramSpec`, `MapSpec`; section names; relocations; linking."""
