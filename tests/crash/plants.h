/* plants.h -- bugs put in on purpose, one at a time and by name: each must be found within its number of images. */
#ifndef TERN_TESTS_CRASH_PLANTS_H
#define TERN_TESTS_CRASH_PLANTS_H

enum plant {
    PLANT_NONE,
    /* A disk that lies. */
    PLANT_NO_SYNC,           /* no sync has happened */
    PLANT_NO_DATA_SYNC,      /* no fdatasync of a file: pages may be missing behind the page that makes them valid */
    PLANT_NO_META_SYNC,      /* no O_DSYNC */
    PLANT_NO_DIRECTORY_SYNC, /* no fsync of a directory */
    PLANT_LOST_WRITE,        /* each 16th synced write, about, is not there */
    /* LMDB opened as it must not be: mdb_env_open is wrapped. */
    PLANT_ENV_NOSYNC,
    PLANT_ENV_NOMETASYNC,
    /* Promises made too early. */
    PLANT_EARLY_DURABLE, /* durable when appended */
    PLANT_EARLY_STATE,   /* a checkpoint finished when submitted */
    PLANT_EARLY_TRIM,    /* the log may be trimmed, says a note without a checkpoint */
    PLANTS
};

extern enum plant plant;

#endif
